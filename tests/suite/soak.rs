//! Many referrals at once, one of their subsystems moody: at rest everything issued is booked, once.
