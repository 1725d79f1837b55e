"""A paywall before any HTTP service: vouchers of scapp payment channels buy requests and bytes (README.md)."""
