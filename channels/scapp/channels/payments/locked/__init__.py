"""Payments under hash locks over several channels: invoices, who passes on what, and what is claimed on chain."""
