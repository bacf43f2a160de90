import Catalog
import Postgres

extension Migrator.Settings {
    /// Refuses to migrate a system as a superuser if a role that is not trusted could have a function in the system's
    /// schema. Must be called before each transaction that runs the system's SQL, because an earlier migration may have
    /// granted rights on the schema.
    ///
    /// - Throws: `MigrationError.openSchema`; `PostgresError`.
    func refuseOpenSchema(of system: MigrationSystem, on connection: isolated Connection) throws {
        let roles = try SystemPath.intruders(in: system.schema, trusted: trustedRoles, on: connection)
        if !roles.isEmpty {
            throw MigrationError.openSchema(system: system.name, schema: system.schema, roles: roles)
        }
    }
}
