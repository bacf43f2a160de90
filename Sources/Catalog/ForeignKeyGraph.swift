/// Which tables point to which by foreign keys.
public struct ForeignKeyGraph: Sendable {
    public struct Key: Sendable, Hashable {
        public let constraint: ObjectIdentity
        /// The table that points, and the one that it points to.
        public let from: ObjectIdentity
        public let to: ObjectIdentity
        /// Names without quotes, in the order of the key.
        public let columns: [String]
        public let referencedColumns: [String]
        /// What becomes of the rows that point, in lower case: `cascade`, `set null`, `set default`, `restrict`; nil for
        /// no action.
        public let onDelete: String?
        /// Whether the check waits for the end of the transaction by itself.
        public let isDeferred: Bool
    }

    /// By constraint.
    public let keys: [Key]

    public init(_ catalog: SchemaCatalog) {
        keys = Self.keys(of: catalog.sorted, in: catalog)
    }

    /// Those among some objects.
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

    /// The tables in groups, each group after all that its tables point to: the order in which rows can be loaded, and,
    /// reversed, deleted. Tables that point to each other in a circle are one group (Tarjan 1972, strongly connected
    /// components).
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
