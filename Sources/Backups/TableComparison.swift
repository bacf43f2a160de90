import Catalog
import Postgres

/// Compares restored tables, with their columns, constraints and other objects, with the tables in the backup. Pure: no
/// I/O.
///
/// Foreign keys and other late constraints are not compared, because the target decides which of them can be made.
struct TableComparison {
    private let tables: Set<FetchedTable>
    /// The object identities of the late constraints.
    private let late: Set<ObjectIdentity>

    init(tables: [FetchedTable], late: LateConstraints = LateConstraints()) {
        self.tables = Set(tables)
        self.late = Set(
            (late.constraints + late.moved).map {
                ObjectIdentity(.constraint, schema: $0.table.schema, parent: $0.table.name, $0.name)
            })
    }

    /// Returns the differences as messages.
    func notes(expected: SchemaCatalog, found: SchemaCatalog) -> [String] {
        CatalogDiff().differences(expected: restricted(expected), found: restricted(found)).map { difference in
            let object = "\(difference.object.kind.name) \(difference.object)"
            switch difference.sort {
            case .missing: return "\(object) was not restored"
            case .unexpected: return "\(object) is not in the backup"
            case .changed:
                return
                    "\(object): \(difference.property ?? "") is \(difference.found ?? "default"), but in the backup it "
                    + "is "
                    + (difference.expected ?? "default")
            }
        }
    }

    private func restricted(_ catalog: SchemaCatalog) -> SchemaCatalog {
        catalog.filtered { identity in
            if identity.kind == .constraint, catalog[identity]?["type"] == "foreign key" { return false }
            if late.contains(identity) { return false }
            guard let schema = identity.schema, let table = identity.kind == .table ? identity.name : identity.parent
            else { return false }
            return tables.contains(FetchedTable(schema: schema, name: table))
        }
    }
}
