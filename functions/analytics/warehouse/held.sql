-- Converted referrals whose two rewards wait for the end of the hold. No event contains their amounts yet.
SELECT program, count(*) AS referrals
FROM referrals
WHERE converted_at IS NOT NULL AND rewarded_at IS NULL AND voided_at IS NULL
GROUP BY program
