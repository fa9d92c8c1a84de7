-- A program's counters by day, and how many of the referrals attributed on the day have converted since.
SELECT
  program,
  day,
  count(*) FILTER (WHERE milestone = 'attributed') AS attributed,
  count(*) FILTER (WHERE milestone = 'converted') AS converted,
  count(*) FILTER (WHERE milestone = 'attributed' AND has_converted) AS converted_since,
  count(*) FILTER (WHERE milestone = 'rewarded') AS rewarded,
  count(*) FILTER (WHERE milestone = 'voided') AS voided
FROM milestones
GROUP BY program, day
