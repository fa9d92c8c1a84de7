-- How many were attributed in the week from a Monday on, and how many of them converted so many weeks later; 26 stands for all later ones too.
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
    -- Two machines' clocks may differ: nobody converts before the attribution.
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
