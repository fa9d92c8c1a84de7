-- Every event once, even if it arrived several times, with typed values. All other views use this one.
SELECT
  event_id,
  event_type,
  occurred_at,
  CAST(substr(occurred_at, 1, 10) AS date) AS day,
  correlation_id,
  referee_id,
  referrer_id,
  program,
  code,
  order_id,
  created_at,
  converted_at,
  rewarded_at,
  voided_at,
  void_reason,
  reward_id,
  side,
  user_id,
  reward_type,
  -- A sum of amounts can exceed 64 bits.
  CAST(amount AS decimal(38, 0)) AS amount,
  currency,
  issued_at,
  delivered_at
FROM (
  -- A missing value arrives as empty text or as the text null. AWS does not document which.
  SELECT
    event_id,
    event_type,
    occurred_at,
    correlation_id,
    referee_id,
    nullif(referrer_id, '') AS referrer_id,
    nullif(program, '') AS program,
    nullif(code, '') AS code,
    nullif(nullif(order_id, ''), 'null') AS order_id,
    nullif(created_at, '') AS created_at,
    nullif(nullif(converted_at, ''), 'null') AS converted_at,
    nullif(nullif(rewarded_at, ''), 'null') AS rewarded_at,
    nullif(nullif(voided_at, ''), 'null') AS voided_at,
    nullif(nullif(void_reason, ''), 'null') AS void_reason,
    nullif(reward_id, '') AS reward_id,
    nullif(side, '') AS side,
    nullif(user_id, '') AS user_id,
    nullif(reward_type, '') AS reward_type,
    nullif(amount, '') AS amount,
    nullif(nullif(currency, ''), 'null') AS currency,
    nullif(issued_at, '') AS issued_at,
    nullif(nullif(delivered_at, ''), 'null') AS delivered_at,
    row_number() OVER (PARTITION BY event_id ORDER BY arrived) AS place
  FROM arrivals
) AS copies
WHERE place = 1
