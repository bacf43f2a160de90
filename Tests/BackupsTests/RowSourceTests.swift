import SQL
import Testing

@testable import Backups

/// Whether all rows of the tables were read.
@Suite struct RowSourceTests {
    private func stored(_ name: String, of ancestors: [String] = []) -> StoredTable {
        StoredTable(
            table: FetchedTable(schema: "s", name: name), hasRows: true, columns: ["a"],
            ancestors: ancestors.map { FetchedTable(schema: "s", name: $0) }, isRerouted: false)
    }

    private func missing(_ tables: [StoredTable], _ expected: [String: Int], _ read: [String: Int]) -> String? {
        RowSource.missing(
            tables,
            of: expected.map { Manifest.Table(schema: "s", name: $0.key, rows: $0.value, digest: "", definition: "") },
            read: Dictionary(uniqueKeysWithValues: read.map { (FetchedTable(schema: "s", name: $0.key), $0.value) }))
    }

    @Test func `each table has as many rows as the manifest records`() {
        let tables = [stored("a"), stored("b")]
        #expect(missing(tables, ["a": 1, "b": 2, "c": 3], ["a": 1, "b": 2]) == nil)
        #expect(missing(tables, ["a": 1, "b": 2], ["a": 2, "b": 1])?.contains("2 rows of s.a") == true)
        #expect(missing(tables, ["a": 1, "b": 2], ["a": 1])?.contains("0 rows of s.b") == true)
        #expect(missing(tables, ["a": 0, "b": 0], [:]) == nil)
    }

    @Test func `rows that were inserted into the root are compared together`() {
        let leaves = [stored("x", of: ["mid", "root"]), stored("y", of: ["root"])]
        #expect(missing(leaves, ["x": 1, "y": 2], ["root": 3]) == nil)
        #expect(missing(leaves, ["x": 1, "y": 2], ["root": 2, "y": 1]) == nil)
        #expect(missing(leaves, ["x": 1, "y": 2], ["root": 2])?.contains("2 rows of s.root") == true)
        #expect(missing(leaves, ["x": 1, "y": 2], ["x": 2, "y": 1]) != nil)
    }

    /// A script that inserts into the root does not say which partition a row is of.
    @Test func `partitions without their root are read one at a time`() {
        let (x, y, other) = (stored("x", of: ["root"]), stored("y", of: ["root"]), stored("other"))
        let root = FetchedTable(schema: "s", name: "root")
        let part = Manifest.Part(
            kind: .data, tables: ["x", "y", "other"].map { FetchedTable(schema: "s", name: $0).path })
        func groups(_ tables: [StoredTable], into targets: [String]? = nil) -> [[String]] {
            let routing = RowRouting(
                tables, as: targets?.map { FetchedTable(schema: "s", name: $0) } ?? tables.map(\.table))
            return routing.groups(in: part).map { $0.map(\.table.name).sorted() }
        }
        #expect(groups([x, y, other]) == [["x"], ["y"], ["other"]])
        #expect(groups([x, other]) == [["other", "x"]])
        // All rows go into one table.
        #expect(groups([x, y], into: ["all", "all"]) == [["x", "y"]])
        let whole = StoredTable(table: root, hasRows: false, columns: ["a"], ancestors: [], isRerouted: false)
        #expect(groups([whole, x, y]) == [["x", "y"]])
    }

    @Test func `names of another encoding than UTF-8 are used only if all encodings write them alike`() {
        #expect(RowSource.canName([stored("é")], encoding: "UTF8"))
        #expect(!RowSource.canName([stored("é")], encoding: "LATIN1"))
        #expect(RowSource.canName([stored("e")], encoding: "LATIN1"))
    }
}
