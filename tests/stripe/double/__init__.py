"""A stateful double of Stripe's Billing Meters (v1): see tests/stripe/README.md."""
