-- A program's voided referrals by day and reason.
SELECT program, day, void_reason, count(*) AS voided
FROM milestones
WHERE milestone = 'voided'
GROUP BY program, day, void_reason
