-- The rewards that referrers earned in a month (2026-01), or for all time (all).
SELECT program, period, referrer_id, stage, reward_type, currency, count(*) AS rewards, sum(amount) AS amount
FROM (
  SELECT
    reward_events.*,
    CASE span WHEN 'all' THEN 'all' ELSE substr(CAST(day AS varchar), 1, 7) END AS period
  FROM reward_events
  CROSS JOIN (VALUES ('all'), ('month')) AS spans (span)
) AS counted
WHERE side = 'referrer'
GROUP BY program, period, referrer_id, stage, reward_type, currency
