-- A bucket that holds files stays, and the foreign key says so. What is another's stays too, with a notice.
DO $$
DECLARE
    policy text;
BEGIN
    FOR policy IN
        SELECT policyname FROM pg_policies
        WHERE schemaname = 'storage' AND tablename = 'objects' AND policyname ~ '^csv_(uploads|templates|service)'
    LOOP
        EXECUTE format('DROP POLICY %I ON storage.objects', policy);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the policies of storage.objects are not ours to drop (%)', sqlerrm;
END $$;
DO $$
BEGIN
    DELETE FROM storage.buckets WHERE id IN ('csv-uploads', 'csv-templates');
EXCEPTION WHEN insufficient_privilege OR invalid_schema_name OR undefined_table OR undefined_column
    OR undefined_function OR wrong_object_type OR invalid_text_representation OR object_not_in_prerequisite_state
    OR raise_exception THEN
    RAISE NOTICE 'the buckets of storage are not ours to remove (%)', sqlerrm;
END $$;
