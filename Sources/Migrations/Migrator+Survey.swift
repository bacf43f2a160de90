import Catalog
import Postgres

extension Migrator.Settings {
    /// Returns the search path for the SQL of a system. Refuses to migrate the system as a superuser if a role that is
    /// not trusted could have a function in the system's schema, or a trigger on its tables. Must be called before each
    /// transaction that runs the system's SQL, because an earlier migration may have granted rights on the schema.
    ///
    /// - Parameter keeper: a connection on which no statement of a migration runs, because it keeps a plan.
    /// - Throws: `MigrationError.openSchema`, `.openTables`; `PostgresError`.
    @discardableResult
    func survey(_ system: MigrationSystem, on keeper: isolated Connection) throws -> SystemPath.Survey {
        let survey = try SystemPath.survey(system.schema, trusted: trustedRoles, on: keeper)
        if !survey.intruders.isEmpty {
            throw MigrationError.openSchema(system: system.name, schema: system.schema, roles: survey.intruders)
        }
        if !survey.triggerMakers.isEmpty {
            throw MigrationError.openTables(
                system: system.name, schema: system.schema, roles: survey.triggerMakers)
        }
        return survey
    }
}
