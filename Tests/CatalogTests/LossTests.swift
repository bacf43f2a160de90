import Postgres
import SQL
import TestSupport
import Testing

@testable import Catalog

/// What is withheld of a mend, because it would lose rows or values.
struct LossTests {
    private func read(_ connection: isolated Connection) throws -> SchemaCatalog {
        var reader = CatalogReader(.schemas(["app"]))
        reader.readsDependencies = true
        return try reader.read(on: connection)
    }

    private func script(
        _ expected: SchemaCatalog, _ found: SchemaCatalog, lossy: Bool = false
    ) -> MendScript {
        Mender(expected: expected, found: found, owner: "postgres").script(
            for: CatalogDiff().differences(expected: expected, found: found), lossy: lossy)
    }

    /// - Parameter expected: the statements that create an object in place of the table `app.x`.
    @Test(
        .database,
        arguments: [
            "CREATE VIEW app.x AS SELECT 1 AS a", "CREATE TYPE app.x AS ENUM ('a')", "CREATE SEQUENCE app.x",
        ])
    func `what takes the place of a table with rows waits for the table`(_ expected: String) async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE SCHEMA app")
            try connection.execute(expected)
            let wanted = try read(connection)
            try connection.execute("DROP SCHEMA app CASCADE; CREATE SCHEMA app")
            try connection.execute("CREATE TABLE app.x AS SELECT 7 AS a")
            let found = try read(connection)
            let harmless = script(wanted, found)
            #expect(harmless.statements.isEmpty && harmless.withheld.count >= 2, "\(harmless.text)")
            for statement in script(wanted, found, lossy: true).statements { try connection.execute(statement.sql) }
            #expect(CatalogDiff().differences(expected: wanted, found: try read(connection)) == [])
        }
    }

    @Test(.database) func `an index waits for the table that has its name`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE SCHEMA app; CREATE TABLE app.t (a int); CREATE INDEX i ON app.t (a)")
            let wanted = try read(connection)
            try connection.execute("DROP INDEX app.i; CREATE TABLE app.i AS SELECT 7 AS a")
            let harmless = script(wanted, try read(connection))
            #expect(harmless.statements.isEmpty && harmless.withheld.count >= 2, "\(harmless.text)")
        }
    }

    @Test(.database) func `a partition is not left detached`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                """
                CREATE SCHEMA app; CREATE TABLE app.p (a int) PARTITION BY RANGE (a);
                CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES FROM (0) TO (100)
                """)
            let wanted = try read(connection)
            try connection.execute(
                "DROP TABLE app.p1; CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES FROM (50) TO (200)")
            #expect(script(wanted, try read(connection)).isAtomic)
        }
    }

    @Test func `a column that becomes generated loses its values`() {
        let column = { (generated: String?) in
            CatalogObject(
                ObjectIdentity(.column, schema: "s", parent: "t", "c"),
                properties: [("type", "integer")] + (generated.map { [("generated", $0)] } ?? []))
        }
        let table = CatalogObject(ObjectIdentity(.table, schema: "s", "t"))
        #expect(DataLoss.ofRebuilding(table, [(column(nil), column(nil))]) == nil)
        #expect(DataLoss.ofRebuilding(table, [(column("(a + 1)"), column("(a + 2)"))]) == nil)
        #expect(DataLoss.ofRebuilding(table, [(column(nil), column("(a + 1)"))])?.contains("s.t.c") == true)
    }

    /// A column's values are stored as jsonb while their composite type is created again.
    @Test(arguments: [
        ("a integer\nb text", false), ("a numeric(5,2)\nb timestamp with time zone", false), ("a json", true),
        ("a integer[]", true), ("a jsonb", true), ("a app.other", true),
    ])
    func `values that jsonb would change are not lost`(attributes: String, isLoss: Bool) {
        let type = { (text: String) in
            CatalogObject(ObjectIdentity(.compositeType, schema: "s", "c"), properties: [("attributes", text)])
        }
        let loss = DataLoss.ofChanging("attributes", from: type(attributes), to: type(attributes + "\nz integer"))
        #expect((loss != nil) == isLoss, "\(loss ?? "none")")
    }

    /// The privileges of a table's owner on its columns.
    @Test(.database) func `a table that is created again leaves its owner what was the owner's`() async throws {
        let database = try TestDatabase.current
        let role = "\(database.name)_owner"
        try await database.with { connection in
            try connection.execute("CREATE ROLE \(role); CREATE SCHEMA app")
            try connection.execute(
                """
                CREATE TABLE app.r (a int, middle int, y text); GRANT SELECT (y) ON app.r TO \(role);
                ALTER TABLE app.r OWNER TO \(role)
                """)
            let expected = try read(connection)
            try connection.execute("ALTER TABLE app.r DROP COLUMN middle")
            for statement in script(expected, try read(connection)).statements {
                try connection.execute(statement.sql)
            }
            #expect(CatalogDiff().differences(expected: expected, found: try read(connection)) == [])
            try connection.execute("DROP OWNED BY \(role); DROP ROLE \(role)")
        }
    }

    @Test func `a right to grant is revoked alone`() {
        let change = PrivilegeChange(object: CatalogObject(ObjectIdentity(.table, schema: "s", "t")), owner: "o")
        let property = "privileges of r"
        #expect(
            change.statements(property, found: "INSERT*, SELECT*", expected: "INSERT, SELECT*")
                == ["REVOKE GRANT OPTION FOR INSERT ON s.t FROM r"])
    }
}
