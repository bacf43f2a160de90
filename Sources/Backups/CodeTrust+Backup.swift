import Postgres
import SQL

/// The checks of the code that a backup and its target contain.
extension CodeTrust {
    /// Refuses a backup that contains code of roles that are not trusted, before any of the backup is restored.
    ///
    /// - Parameters:
    ///   - archives: the tables of contents of the archives that contain the backup's definitions.
    ///   - target: the server whose superusers are trusted. The restoring role is trusted, too.
    ///   - owners: the roles that own objects in the source database, including roles that the target does not have
    ///     yet.
    ///   - isThrough: whether the objects are restored into a scratch server first, and a dump of them is then restored
    ///     into `target`. If so, the check is made even if the restoring role is not a superuser.
    /// - Throws: `BackupError.foreignCode`; `PostgresError`.
    func check(
        _ archives: [TableOfContents], for target: ConnectionSettings, owners: [String], isThrough: Bool = false
    ) async throws {
        guard case .roles(let named) = self else { return }
        let (roles, trusted) = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection -> ([String], Set<ExactText>) in
                let isSuperuser = try Confinement.isSuperuser(on: connection)
                guard isSuperuser || isThrough else { return ([], []) }
                let rows = try connection.query(
                    "SELECT rolname::text, rolsuper OR rolname = current_user FROM pg_roles"
                ).map { (try $0.get(0, as: String.self), try $0.get(1, as: Bool.self)) }
                return (rows.map(\.0), Set((rows.filter(\.1).map(\.0) + named).map(ExactText.init)))
            }
        }
        if trusted.isEmpty { return }
        for contents in archives {
            // Pass the names of all possible owners. The roles of the target are not enough: an owner or a trusted role
            // may not exist in the target yet.
            if let piece = ArchiveCode.foreign(in: contents, trusted: trusted, among: roles + named + owners) {
                throw BackupError.foreignCode(what: piece.name, role: piece.owner)
            }
        }
    }

    /// Refuses a target that contains code of roles that are not trusted, because the backup's definitions could refer
    /// to that code. Code in extensions, and in schemas that no backup contains, is refused, too. To be called when no
    /// other session can connect to the target. Checks nothing if the restoring role is not a superuser.
    ///
    /// - Throws: `BackupError.foreignTarget`; `PostgresError`.
    func checkIsClean(_ target: ConnectionSettings) async throws {
        guard case .roles(let named) = self else { return }
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                guard try Confinement.isSuperuser(on: connection) else { return }
                let found = try connection.query(
                    """
                    SELECT pg_describe_object(s.classid, s.objid, 0), o.rolname::text
                    FROM pg_shdepend s JOIN pg_roles o ON o.oid = s.refobjid
                    WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND s.classid IN (
                            'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass,
                            'pg_type'::regclass, 'pg_language'::regclass, 'pg_conversion'::regclass)
                        AND \(Self.isUntrusted(named))
                    ORDER BY 1 LIMIT 1
                    """
                ).first
                if let found { throw BackupError.foreignTarget(what: try found.get(0), role: try found.get(1)) }
            }
        }
    }
}
