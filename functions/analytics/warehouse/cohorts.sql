-- Referrals attributed in the week that starts on a Monday, and how many of them converted how many weeks later; 26 includes all later weeks.
SELECT
  program,
  week,
  CAST(sum(count(*)) OVER (PARTITION BY program, week) AS bigint) AS attributed,
  weeks_later,
  count(weeks_later) AS converted
FROM (
  SELECT
    program,
    week,
    -- Clocks differ between machines, so a conversion can seem to be older than its attribution: week 0.
    CASE
      WHEN converted_in IS NOT NULL
        THEN CAST(least(greatest(date_diff('week', week, converted_in), 0), 26) AS bigint)
    END AS weeks_later
  FROM (
    SELECT
      program,
      CAST(date_trunc('week', CAST(substr(attributed_at, 1, 10) AS date)) AS date) AS week,
      CAST(date_trunc('week', CAST(substr(converted_at, 1, 10) AS date)) AS date) AS converted_in
    FROM referrals
  ) AS lives
) AS aged
GROUP BY program, week, weeks_later
