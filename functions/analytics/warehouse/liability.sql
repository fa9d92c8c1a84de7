-- Rewards that are issued and neither delivered nor taken back, by type and currency, and the part of them that was refused at least once.
SELECT
  reward_type,
  currency,
  count(*) AS rewards,
  sum(amount) AS amount,
  count(*) FILTER (WHERE is_refused) AS refused_rewards,
  CAST(coalesce(sum(amount) FILTER (WHERE is_refused), 0) AS decimal(38, 0)) AS refused_amount
FROM (
  SELECT
    reward_id,
    max(reward_type) AS reward_type,
    max(currency) AS currency,
    max(amount) AS amount,
    bool_or(event_type IN ('reward.delivered', 'reward.reversed')) AS is_settled,
    bool_or(event_type = 'reward.failed') AS is_refused
  FROM events
  WHERE event_type LIKE 'reward.%'
  GROUP BY reward_id
) AS rewards
WHERE NOT is_settled
GROUP BY reward_type, currency
