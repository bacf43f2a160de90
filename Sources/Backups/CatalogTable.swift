import Catalog
import SQL

/// A table as the catalog of a backup describes it. Pure: no I/O.
struct CatalogTable: Sendable {
    struct Column: Sendable, Equatable {
        let name: String
        /// The type, as `format_type` writes it.
        let type: String
    }

    let table: FetchedTable
    /// The columns that are not generated, in their order.
    let columns: [Column]
    /// The columns of the primary key; empty if there is none.
    let key: [String]
    /// The table and its partitions at all levels, as far as they have rows of their own.
    let members: [StoredTable]

    /// - Returns: nil if the catalog has no such table.
    init?(_ table: FetchedTable, in catalog: SchemaCatalog) {
        func identity(_ table: FetchedTable) -> ObjectIdentity {
            ObjectIdentity(.table, schema: table.schema, table.name)
        }
        guard catalog[identity(table)] != nil else { return nil }
        func columns(_ table: FetchedTable) -> [Column] {
            var order = NameScanner(catalog[identity(table)]?["column order"] ?? "")
            return (order.names() ?? []).compactMap { name in
                let column = catalog[
                    ObjectIdentity(.column, schema: table.schema, parent: table.name, name)]
                guard let type = column?["type"], column?["generated"] == nil else { return nil }
                return Column(name: name, type: type)
            }
        }
        self.table = table
        self.columns = columns(table)
        key = Self.key(of: table, in: catalog)
        var members: [StoredTable] = []
        func parent(_ one: FetchedTable) -> FetchedTable? {
            catalog[identity(one)]?["partition of"].flatMap { text in
                var scanner = NameScanner(text)
                return scanner.table()
            }
        }
        // A catalog is input: a table may be named as its own ancestor.
        var known: Set<FetchedTable> = [table]
        var above: [FetchedTable] = []
        while let one = parent(above.last ?? table), known.insert(one).inserted { above.append(one) }
        var next: [(table: FetchedTable, above: [FetchedTable])] = [(table, above)]
        let partitions = Dictionary(grouping: catalog.objects.values.filter { $0.identity.kind == .table }) { one in
            one["partition of"].flatMap { text -> FetchedTable? in
                var scanner = NameScanner(text)
                return scanner.table()
            }
        }
        while let (one, above) = next.popLast() {
            if catalog[identity(one)]?["partition key"] == nil {
                members.append(
                    StoredTable(
                        table: one, hasRows: true, columns: columns(one).map(\.name), ancestors: above,
                        isRerouted: false))
            }
            next += (partitions[one] ?? []).compactMap { object in
                guard let schema = object.identity.schema else { return nil }
                let partition = FetchedTable(schema: schema, name: object.identity.name)
                return known.insert(partition).inserted ? (partition, [one] + above) : nil
            }
        }
        self.members = members.sorted { $0.table < $1.table }
    }

    private static func key(of table: FetchedTable, in catalog: SchemaCatalog) -> [String] {
        let constraints = catalog.objects.values.filter {
            $0.identity.kind == .constraint && $0.identity.schema.map(ExactText.init) == ExactText(table.schema)
                && $0.identity.parent.map(ExactText.init) == ExactText(table.name) && $0["type"] == "primary key"
        }
        guard let columns = constraints.first?["columns"] else { return [] }
        var scanner = NameScanner(columns)
        return scanner.names() ?? []
    }
}
