-- Every referral once, in its latest known state. Each event contains the whole state, so the latest event replaces lost ones.
SELECT
  referee_id,
  max(program) AS program,
  max(referrer_id) AS referrer_id,
  max(created_at) AS attributed_at,
  max(converted_at) AS converted_at,
  max(rewarded_at) AS rewarded_at,
  max(voided_at) AS voided_at,
  max(void_reason) AS void_reason
FROM events
WHERE event_type LIKE 'referral.%'
GROUP BY referee_id
