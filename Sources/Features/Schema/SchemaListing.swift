import Catalog
import Kernel
import Postgres
import Reporting
import SQL

/// The objects of a schema, in the form that `schema show` prints.
struct SchemaListing {
    private let objects: [CatalogObject]
    private let catalog: SchemaCatalog
    private let isWhole: Bool

    /// - Parameter pattern: selects objects by kind and name, or by name; `*` matches any characters. nil selects all
    ///   objects except those that belong to a table or a domain, such as columns and constraints.
    /// - Returns: nil if no object matches.
    init?(catalog: SchemaCatalog, pattern: String?) {
        self.catalog = catalog
        isWhole = pattern == nil
        let parts: Set<ObjectKind> = [.column, .constraint, .index, .rule, .trigger, .policy, .domainConstraint]
        guard let pattern else {
            objects = catalog.sorted.filter { !parts.contains($0.identity.kind) }
            return
        }
        let chosen = catalog.sorted.filter { object in
            let name = object.identity.description
            let bare = object.identity.path
            return [name, bare, "\(object.identity.kind.name) \(name)"].contains {
                IgnoreList.matches(pattern, $0)
            }
        }
        if chosen.isEmpty { return nil }
        let names = Set(chosen.map { [$0.identity.schema, $0.identity.name].map { $0.map(ExactText.init) } })
        let whole = catalog.sorted.filter { object in
            chosen.contains(object)
                || object.identity.parent.map { parent in
                    names.contains([object.identity.schema, parent].map { $0.map(ExactText.init) })
                } ?? false
        }
        objects = whole
    }

    var text: String {
        if isWhole {
            var table = TextTable("KIND", "NAME")
            for object in objects { table.add(object.identity.kind.name, object.identity.description) }
            return table.text
        }
        var shown = SchemaCatalog(schemas: [], serverVersion: catalog.serverVersion, objects: objects)
        shown.systems = catalog.systems
        return SchemaSnapshot.shown(shown) + references
    }

    /// The foreign keys that refer to the shown tables.
    private var references: String {
        let tables = Set(objects.map(\.identity).filter { $0.kind == .table })
        let keys = ForeignKeyGraph(catalog).keys.filter { tables.contains($0.to) }
        if keys.isEmpty { return "" }
        return "\nreferenced by\n"
            + keys.map { "  \(visible("\($0.constraint): \($0.columns.joined(separator: ", "))"))\n" }.joined()
    }

    var json: JSONValue {
        [
            "objects": .array(
                objects.map { object in
                    [
                        "kind": .string(object.identity.kind.name),
                        "object": .string(object.identity.description),
                        "properties": .object(
                            Dictionary(
                                object.properties.map { ($0.name, .string($0.value)) }, uniquingKeysWith: { $1 })),
                    ]
                })
        ]
    }
}
