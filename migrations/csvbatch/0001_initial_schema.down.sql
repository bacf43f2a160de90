DROP TABLE csv_processing_logs, csv_processing_workers, csv_row_jobs, csv_batches;
