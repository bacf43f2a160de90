import Catalog
import Foundation
import Postgres
import SQL

/// Runs migrations in a scratch database and reads the schema that they create.
struct SchemaReplay: Sendable {
    /// The selections, ordered so that each system follows the systems that it requires.
    let selections: [MigrationSelection]

    /// - Parameter server: the connection to the server on which the scratch database is created.
    /// - Throws: `PostgresError`; `MigrationError` if a migration cannot be run there; `ValidationError` if other runs
    ///   need the names of the replay's roles again and again.
    func run(beside server: ConnectionSettings) async throws -> SchemaCatalog {
        for _ in 0..<Self.attempts {
            if let catalog = try await attempt(beside: server) { return catalog }
        }
        throw ValidationError(
            "other runs of migrations have created the roles of the replay meanwhile, \(Self.attempts) times",
            hint: "run the command again when no migrations are applied on the server")
    }

    private static let attempts = 3

    /// - Returns: nil if another run has renamed a role of the replay, so that the result is not what the migrations
    ///   create.
    private func attempt(beside server: ConnectionSettings) async throws -> SchemaCatalog? {
        try await ScratchDatabase.with(beside: server) { scratch in
            let settings = try await ReplayedSettings.copy(from: server, to: scratch)
            return try await ReplaySession.with(in: settings, beside: server) { session -> SchemaCatalog? in
                let result: Result<SchemaCatalog, any Error>
                do { result = .success(try await replay(in: &session)) } catch { result = .failure(error) }
                let wasDisturbed = try? await session.connection.with { try ScratchDatabase.hasRenamedRole(on: $0) }
                return wasDisturbed == true ? nil : try result.get()
            }
        }
    }

    private func replay(in session: inout ReplaySession) async throws -> SchemaCatalog {
        var systems: [ObjectIdentity: String] = [:]
        for selection in selections {
            try await ReplayRun(selection: selection).perform(in: &session)
            for object in try await session.connection.with({ try Self.made(on: $0) }) where systems[object] == nil {
                systems[object] = selection.system.name
            }
            systems[ObjectIdentity(.schema, selection.system.schema)] = selection.system.name
        }
        let schemas = Set(systems.keys.filter { $0.kind == .schema }.map { ExactText($0.name) })
        var reader = CatalogReader(.schemas(schemas))
        reader.readsDependencies = true
        var catalog = try await session.connection.with { [reader] in try reader.read(on: $0) }
        catalog.systems = systems
        return catalog
    }

    /// Returns the schemas of the scratch database and its objects outside schemas. The schema `public` is included
    /// only if it contains objects.
    private static func made(on connection: isolated Connection) throws -> [ObjectIdentity] {
        let rows = try connection.query(
            """
            SELECT 'schema' AS kind, nspname::text FROM pg_namespace n
            WHERE \(UserSchemas.conditionWithoutLedger("nspname"))
                AND (nspname <> 'public' OR EXISTS (
                    SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass
                        AND d.refobjid = n.oid AND d.deptype = 'n' AND d.classid <> 'pg_extension'::regclass
                        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid
                            AND e.objid = d.objid AND e.deptype = 'e')))
            UNION ALL SELECT 'extension', extname FROM pg_extension WHERE extname <> 'plpgsql'
            UNION ALL SELECT 'event trigger', evtname FROM pg_event_trigger
            UNION ALL SELECT 'publication', pubname FROM pg_publication
            UNION ALL SELECT 'foreign-data wrapper', fdwname FROM pg_foreign_data_wrapper
            UNION ALL SELECT 'foreign server', srvname FROM pg_foreign_server
            UNION ALL SELECT 'subscription', subname FROM pg_subscription WHERE subdbid = (
                SELECT oid FROM pg_database WHERE datname = current_database())
            UNION ALL SELECT 'cast', format_type(castsource, NULL) || ' AS ' || format_type(casttarget, NULL)
                FROM pg_cast WHERE oid >= 16384
            """)
        return try rows.compactMap { row in
            try ObjectKind(name: row.get(0)).map { ObjectIdentity($0, try row.get(1)) }
        }
    }
}
