"""The referral model, as far as the six steps need it."""
