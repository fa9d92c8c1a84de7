"""The parts of the referral model that the six steps need."""
