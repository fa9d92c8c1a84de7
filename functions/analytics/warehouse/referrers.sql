-- The referrers of a program in a month (2026-01), or for all time (all). Rank by net_conversions: converted and not voided.
SELECT
  program,
  period,
  referrer_id,
  count(*) FILTER (WHERE milestone = 'converted' AND NOT is_voided) AS net_conversions,
  count(*) FILTER (WHERE milestone = 'attributed') AS attributed,
  count(*) FILTER (WHERE milestone = 'converted') AS converted,
  count(*) FILTER (WHERE milestone = 'rewarded') AS rewarded,
  count(*) FILTER (WHERE milestone = 'voided') AS voided
FROM (
  SELECT
    milestones.*,
    CASE span WHEN 'all' THEN 'all' ELSE substr(CAST(day AS varchar), 1, 7) END AS period
  FROM milestones
  CROSS JOIN (VALUES ('all'), ('month')) AS spans (span)
) AS counted
GROUP BY program, period, referrer_id
