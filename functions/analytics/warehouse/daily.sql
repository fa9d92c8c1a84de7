-- A program's days: what came to pass, and how many of those attributed on it have converted since.
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
