import Postgres

/// Whose code a backup brings, and whose its target has.
extension CodeTrust {
    /// Looks, before anything of a backup is made, whether it brings code of roles that are not trusted.
    ///
    /// - Parameters:
    ///   - archives: the tables of contents of its definitions.
    ///   - target: whose superusers are trusted, as is the role that restores.
    ///   - owners: the roles that own something in the source: those that are not in the target yet, too.
    ///   - isThrough: whether what is made is to be read again by a session in `target`, whoever's that is.
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
            // A role that is not there yet may be trusted too.
            if let piece = ArchiveCode.foreign(in: contents, trusted: trusted, among: roles + named + owners) {
                throw BackupError.foreignCode(what: piece.name, role: piece.owner)
            }
        }
    }

    /// Looks, once nobody else can get into a target, whether it holds code of roles that are not trusted, which definitions of
    /// the backup could mean: also what is a part of an extension, or lies in a schema that no backup has.
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
