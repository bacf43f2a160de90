-- The counters of a batch are those of its rows. What was done may be counted higher, where a batch was taken over with
-- its counters and without its rows. A completed batch has no open row, and claims find each row that is pending.
SELECT b.id::text, 'counts' FROM %schema%.csv_batches b
LEFT JOIN (
    SELECT r.batch_id, count(*) FILTER (WHERE r.status = 'completed') AS successful,
        count(*) FILTER (WHERE r.status = 'failed') AS failed,
        count(*) FILTER (WHERE r.status NOT IN ('completed', 'failed')) AS open,
        min(r.row_number) FILTER (WHERE r.status = 'pending') AS first_pending
    FROM %schema%.csv_row_jobs r GROUP BY r.batch_id) r ON r.batch_id = b.id
WHERE b.open_rows <> coalesce(r.open, 0) OR b.successful_rows < coalesce(r.successful, 0)
   OR b.failed_rows < coalesce(r.failed, 0) OR b.total_rows < b.processed_rows + b.open_rows
   OR (b.status = 'completed' AND r.open > 0)
   OR (r.first_pending IS NOT NULL AND coalesce(b.first_pending_row > r.first_pending, true))
UNION ALL
-- Each row of a batch stands once.
SELECT r.batch_id::text, 'row ' || r.row_number FROM %schema%.csv_row_jobs r
GROUP BY r.batch_id, r.row_number HAVING count(*) > 1;
