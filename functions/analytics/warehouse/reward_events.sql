-- The events of each reward with the referral's program and referrer: issued, delivered, failed, reversed, and types added later.
SELECT
  referrals.program,
  referrals.referrer_id,
  events.reward_id,
  events.side,
  substr(events.event_type, 8) AS stage,
  events.day,
  events.reward_type,
  events.currency,
  events.amount
FROM events
LEFT JOIN referrals ON referrals.referee_id = events.referee_id
WHERE events.event_type LIKE 'reward.%'
