-- What came to pass with each reward, and in whose program: issued, delivered, failed, and whatever is told of rewards later.
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
