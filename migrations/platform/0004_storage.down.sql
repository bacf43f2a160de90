DO $$
BEGIN
    IF obj_description(to_regnamespace('storage'), 'pg_namespace') LIKE '%(made by reeve)' THEN
        DROP FUNCTION storage.foldername(text), storage.filename(text);
        DROP TABLE storage.objects, storage.buckets;
        DROP SCHEMA storage;
    END IF;
END $$;
