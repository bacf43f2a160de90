DROP TRIGGER touch_csv_row_jobs ON csv_row_jobs;
DROP TRIGGER touch_csv_batches ON csv_batches;
DROP FUNCTION touch_updated_at();
DROP TRIGGER count_csv_rows_deleted ON csv_row_jobs;
DROP TRIGGER count_csv_rows_updated ON csv_row_jobs;
DROP TRIGGER count_csv_rows_inserted ON csv_row_jobs;
DROP FUNCTION count_csv_rows();
