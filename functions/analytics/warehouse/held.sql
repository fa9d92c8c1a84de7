-- Referrals that are converted, and whose two rewards wait for the end of the hold. No event says yet what these are worth.
SELECT program, count(*) AS referrals
FROM referrals
WHERE converted_at IS NOT NULL AND rewarded_at IS NULL AND voided_at IS NULL
GROUP BY program
