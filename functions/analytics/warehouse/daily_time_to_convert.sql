-- A program's conversions by day and time to convert: less than the bound below, and not less than the next smaller bound; NULL is 30 days or more.
SELECT
  program,
  CAST(substr(converted_at, 1, 10) AS date) AS day,
  CASE
    WHEN time_to_convert < 60000 THEN '1m'
    WHEN time_to_convert < 600000 THEN '10m'
    WHEN time_to_convert < 3600000 THEN '1h'
    WHEN time_to_convert < 21600000 THEN '6h'
    WHEN time_to_convert < 86400000 THEN '1d'
    WHEN time_to_convert < 259200000 THEN '3d'
    WHEN time_to_convert < 604800000 THEN '7d'
    WHEN time_to_convert < 1209600000 THEN '14d'
    WHEN time_to_convert < 2592000000 THEN '30d'
  END AS below,
  count(*) AS conversions
FROM (
  SELECT
    program,
    converted_at,
    date_diff(
      'millisecond',
      CAST(replace(substr(attributed_at, 1, 23), 'T', ' ') AS timestamp),
      CAST(replace(substr(converted_at, 1, 23), 'T', ' ') AS timestamp)
    ) AS time_to_convert
  FROM referrals
  WHERE converted_at IS NOT NULL
) AS conversions
GROUP BY 1, 2, 3
