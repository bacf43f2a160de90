DROP VIEW pg_stat_statements, system_health, security_log, recent_alerts, error_analysis, daily_job_statistics, hourly_job_statistics,
    url_access_analytics, storage_performance, processing_step_performance, element_summary, failed_jobs,
    completed_jobs, active_jobs, job_summary;
DROP FUNCTION inet_or_null(text), statement_statistics();
