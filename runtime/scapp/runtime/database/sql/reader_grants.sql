-- What the read-only role may see: everything, the tables of later deployments included ({schema} is one schema).
GRANT USAGE ON SCHEMA {schema} TO scapp_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO scapp_reader;
