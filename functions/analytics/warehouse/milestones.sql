-- The milestones of each referral, with the day (UTC) on which each happened.
SELECT
  program,
  referrer_id,
  referee_id,
  milestone,
  CAST(substr(happened_at, 1, 10) AS date) AS day,
  void_reason,
  has_converted,
  is_voided
FROM (
  SELECT
    program,
    referrer_id,
    referee_id,
    milestone,
    CASE milestone
      WHEN 'attributed' THEN attributed_at
      WHEN 'converted' THEN converted_at
      WHEN 'rewarded' THEN rewarded_at
      WHEN 'voided' THEN voided_at
    END AS happened_at,
    void_reason,
    converted_at IS NOT NULL AS has_converted,
    voided_at IS NOT NULL AS is_voided
  FROM referrals
  CROSS JOIN (VALUES ('attributed'), ('converted'), ('rewarded'), ('voided')) AS kinds (milestone)
) AS lives
WHERE happened_at IS NOT NULL
