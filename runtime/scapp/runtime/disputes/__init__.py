"""What defends a funded channel without its node: dispute packages, kept current as files and at watchtowers."""
