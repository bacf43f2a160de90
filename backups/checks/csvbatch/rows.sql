-- A batch counts no more rows than it has, and each row of it stands once.
SELECT b.id::text, 'counts' FROM %schema%.csv_batches b
WHERE b.processed_rows > b.total_rows OR b.successful_rows + b.failed_rows > b.processed_rows
UNION ALL
SELECT r.batch_id::text, 'row ' || r.row_number FROM %schema%.csv_row_jobs r
GROUP BY r.batch_id, r.row_number HAVING count(*) > 1;
