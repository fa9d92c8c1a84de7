-- A program's days: referrals that were called off, by reason.
SELECT program, day, void_reason, count(*) AS voided
FROM milestones
WHERE milestone = 'voided'
GROUP BY program, day, void_reason
