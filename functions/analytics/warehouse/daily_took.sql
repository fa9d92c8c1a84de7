-- A program's days: how many conversions came within a time of the attribution, and not within the one before it.
SELECT
  program,
  CAST(substr(converted_at, 1, 10) AS date) AS day,
  CASE
    WHEN took < 60000 THEN '1m'
    WHEN took < 600000 THEN '10m'
    WHEN took < 3600000 THEN '1h'
    WHEN took < 21600000 THEN '6h'
    WHEN took < 86400000 THEN '1d'
    WHEN took < 259200000 THEN '3d'
    WHEN took < 604800000 THEN '7d'
    WHEN took < 1209600000 THEN '14d'
    WHEN took < 2592000000 THEN '30d'
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
    ) AS took
  FROM referrals
  WHERE converted_at IS NOT NULL
) AS conversions
GROUP BY 1, 2, 3
