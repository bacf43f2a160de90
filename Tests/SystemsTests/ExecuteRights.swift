import Postgres
import TestSupport

/// Who may execute the functions of a schema.
enum ExecuteRights {
    /// Returns a line for each function and procedure that is not a trigger function, in the order of their names:
    /// `name(argument types) [SECURITY DEFINER]: roles`. The owner is left out; PUBLIC stands for everybody.
    static func lines(schema: String) async throws -> [String] {
        try await TestDatabase.current.with { connection in
            try connection.query(
                """
                SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
                    || CASE WHEN p.prosecdef THEN ' SECURITY DEFINER' ELSE '' END || ': '
                    || coalesce((
                        SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, ', '
                            ORDER BY a.grantee <> 0, a.grantee::regrole::text)
                        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                        WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner), 'nobody')
                FROM pg_proc p
                WHERE p.pronamespace = $1::regnamespace AND p.prorettype <> 'trigger'::regtype
                ORDER BY p.proname, pg_get_function_identity_arguments(p.oid)
                """, [schema]
            ).map { try $0.get(0, as: String.self) }
        }
    }

    /// Returns the SECURITY DEFINER functions of a schema, trigger functions included, whose search path is not pinned
    /// or that everybody may execute.
    static func careless(schema: String) async throws -> [String] {
        try await TestDatabase.current.with { connection in
            try connection.query(
                """
                SELECT p.oid::regprocedure::text FROM pg_proc p
                WHERE p.pronamespace = $1::regnamespace AND p.prosecdef AND (
                    NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE 'search\\_path=%')
                    OR EXISTS (
                        SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))
                ORDER BY 1
                """, [schema]
            ).map { try $0.get(0, as: String.self) }
        }
    }
}
