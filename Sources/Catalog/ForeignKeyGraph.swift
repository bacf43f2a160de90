/// The foreign keys between the tables of a catalog.
public struct ForeignKeyGraph: Sendable {
    public struct Key: Sendable, Hashable {
        public let constraint: ObjectIdentity
        /// The referencing table; `to` is the referenced table.
        public let from: ObjectIdentity
        public let to: ObjectIdentity
        /// The columns, without quotes, in the order of the key.
        public let columns: [String]
        public let referencedColumns: [String]
        /// The action on referencing rows, in lower case: `cascade`, `set null`, `set default`, `restrict`; nil for no
        /// action.
        public let onDelete: String?
        /// Whether the constraint is `INITIALLY DEFERRED`, that is, checked at the end of the transaction by default.
        public let isDeferred: Bool
    }

    /// The foreign keys, sorted by the identity of the constraint.
    public let keys: [Key]

    public init(_ catalog: SchemaCatalog) {
        keys = Self.keys(of: catalog.sorted, in: catalog)
    }

    /// Returns the foreign keys among the given objects.
    static func keys(of objects: [CatalogObject], in catalog: SchemaCatalog) -> [Key] {
        objects.compactMap { object in
            guard object.identity.kind == .constraint, object["type"] == "foreign key",
                let from = catalog.container(of: object),
                let path = object["references"]
            else { return nil }
            let parts = QualifiedName.parts(path[...])
            let to =
                catalog.object(at: path)
                ?? ObjectIdentity(.table, schema: parts.count > 1 ? parts[0] : nil, parts.last ?? "")
            return Key(
                constraint: object.identity, from: from, to: to,
                columns: QualifiedName.list(object["columns"] ?? "").map(QualifiedName.unquoted),
                referencedColumns: QualifiedName.list(object["referenced columns"] ?? "").map(QualifiedName.unquoted),
                onDelete: object["on delete"], isDeferred: object["deferrable"] == "initially deferred")
        }
    }

    /// Returns the tables in groups. Each group follows all groups that its tables reference, so rows can be loaded in
    /// this order, and deleted in the reverse order. Tables that reference each other in a cycle are one group (Tarjan
    /// 1972, strongly connected components).
    public func order(of tables: [ObjectIdentity]) -> [[ObjectIdentity]] {
        var targets: [ObjectIdentity: [ObjectIdentity]] = [:]
        for key in keys { targets[key.from, default: []].append(key.to) }
        var search = ComponentSearch(targets: targets, wanted: Set(tables))
        for table in tables.sorted() { search.visit(table) }
        return search.components
    }

    private struct ComponentSearch {
        let targets: [ObjectIdentity: [ObjectIdentity]]
        let wanted: Set<ObjectIdentity>
        var components: [[ObjectIdentity]] = []
        private var numbers: [ObjectIdentity: Int] = [:]
        private var lowest: [ObjectIdentity: Int] = [:]
        private var stack: [ObjectIdentity] = []
        private var isOpen: Set<ObjectIdentity> = []

        init(targets: [ObjectIdentity: [ObjectIdentity]], wanted: Set<ObjectIdentity>) {
            self.targets = targets
            self.wanted = wanted
        }

        mutating func visit(_ table: ObjectIdentity) {
            guard wanted.contains(table), numbers[table] == nil else { return }
            let number = numbers.count
            numbers[table] = number
            lowest[table] = number
            stack.append(table)
            isOpen.insert(table)
            for target in (targets[table] ?? []).sorted() where wanted.contains(target) {
                if numbers[target] == nil {
                    visit(target)
                    lowest[table] = min(lowest[table] ?? number, lowest[target] ?? number)
                } else if isOpen.contains(target) {
                    lowest[table] = min(lowest[table] ?? number, numbers[target] ?? number)
                }
            }
            guard lowest[table] == number else { return }
            var component: [ObjectIdentity] = []
            while let last = stack.popLast() {
                isOpen.remove(last)
                component.append(last)
                if last == table { break }
            }
            components.append(component.sorted())
        }
    }
}
