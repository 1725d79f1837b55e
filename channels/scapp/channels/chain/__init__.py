"""The chain: contracts that scapp's channels settle on."""
