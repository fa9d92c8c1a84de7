-- A program's rewards by day, stage, type and currency.
SELECT program, day, stage, reward_type, currency, count(*) AS rewards, sum(amount) AS amount
FROM reward_events
GROUP BY program, day, stage, reward_type, currency
