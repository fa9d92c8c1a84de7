-- Every referral once, in its latest known state. Each event contains the whole state, so the latest event replaces lost ones. A void after the issue is the last event of all. The events of a second life, in which the referral converted again or was reopened, have ids that end in :2. A void follows the conversion with its number.
SELECT
  referee_id,
  program,
  referrer_id,
  created_at AS attributed_at,
  converted_at,
  rewarded_at,
  voided_at,
  void_reason
FROM (
  SELECT
    events.*,
    row_number() OVER (
      PARTITION BY referee_id
      ORDER BY
        CASE
          WHEN event_type = 'referral.rewarded' THEN 2
          WHEN rewarded_at IS NOT NULL THEN 3
          ELSE 1
        END DESC,
        CAST(coalesce(nullif(regexp_extract(event_id, ':([0-9]+)$', 1), ''), '1') AS integer) DESC,
        event_type DESC
    ) AS place
  FROM events
  WHERE event_type LIKE 'referral.%'
) AS revisions
WHERE place = 1
