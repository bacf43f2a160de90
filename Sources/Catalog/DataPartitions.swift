import Postgres
import SQL

/// Reconciles the partitions of two catalogs before they are compared. Pure.
///
/// Functions and retention policies create and drop partitions, so the set of partitions is data and not schema. A
/// comparison therefore expects the partitions that are there, with the columns of their parents as they are expected.
/// What distinguishes a partition from its parent, for instance a constraint of its own, remains a difference.
struct DataPartitions {
    let expected: SchemaCatalog
    let found: SchemaCatalog
    /// Returns whether a migration names a partition, as opposed to a function that computes the name.
    let isNamed: (ObjectIdentity) -> Bool
    private let defaults: DefaultPrivileges
    /// The found statistics objects, by the path of their table.
    private let statistics: [ExactText: [CatalogObject]]
    /// The expected objects that cannot exist without a relation, by the path of the relation.
    private let parts: [ExactText: [ObjectIdentity]]
    /// The partitions of each catalog, by the path of their parent.
    private let expectedPartitions: [ExactText: [CatalogObject]]
    private let foundPartitions: [ExactText: [CatalogObject]]

    /// - Returns: nil if neither catalog has partitions.
    init?(expected: SchemaCatalog, found: SchemaCatalog, isNamed: @escaping (ObjectIdentity) -> Bool) {
        expectedPartitions = Self.partitions(of: expected)
        foundPartitions = Self.partitions(of: found)
        if expectedPartitions.isEmpty, foundPartitions.isEmpty { return nil }
        self.expected = expected
        self.found = found
        self.isNamed = isNamed
        defaults = DefaultPrivileges(found)
        let named = found.objects.values.filter { $0.identity.kind == .statistics }
        statistics = Dictionary(grouping: named) { ExactText($0["table"] ?? "") }
        var parts: [ExactText: [ObjectIdentity]] = [:]
        for object in expected.objects.values {
            guard let container = expected.container(of: object) else { continue }
            let table = container.kind == .column ? container.quotedParent : container.path
            parts[ExactText(table), default: []].append(object.identity)
        }
        self.parts = parts
    }

    /// The expected catalog with the partitions that only the found catalog has, and without the partitions that may be
    /// missing.
    var reconciled: SchemaCatalog {
        var result = expected
        var parents = expected.objects.keys.filter { expected[$0]?["partition key"] != nil }.sorted()
        // Partitions of partitions, whose rows the row level security of an ancestor hides.
        var hidden: Set<ObjectIdentity> = []
        while let parent = parents.popLast() {
            guard let wanted = result[parent], let there = found[parent],
                ExactText.same(wanted["partition key"], there["partition key"])
            else { continue }
            let siblings = foundPartitions[ExactText(parent.path)] ?? []
            for partition in expectedPartitions[ExactText(parent.path)] ?? [] where found[partition.identity] == nil {
                if mayBeMissing(partition, among: siblings) { remove(partition.identity, from: &result) }
            }
            let hides = wanted["row level security"] != nil || hidden.contains(parent)
            for partition in siblings where isAdopted(partition) {
                adopt(partition, of: wanted, hidesRows: hides, &result)
                if partition["partition key"] != nil { parents.append(partition.identity) }
                if hides { hidden.insert(partition.identity) }
            }
        }
        return result
    }

    /// Returns the partitions of a catalog by the path of their parent.
    private static func partitions(of catalog: SchemaCatalog) -> [ExactText: [CatalogObject]] {
        let all = catalog.objects.values.filter { $0.identity.kind.isTable && $0["partition of"] != nil }
        return Dictionary(grouping: all) { ExactText($0["partition of"] ?? "") }
    }

    // MARK: Partitions that only the expected catalog has

    /// Returns whether a partition may be missing: a function created it in the replay, or it is older than all
    /// partitions that are there, so that a retention policy has dropped it. Rows without a partition are refused, so a
    /// default or hash partition must not be missing.
    private func mayBeMissing(_ partition: CatalogObject, among siblings: [CatalogObject]) -> Bool {
        guard let bound = partition["partition bound"],
            bound.hasPrefix("FOR VALUES FROM") || bound.hasPrefix("FOR VALUES IN")
        else { return false }
        if !isNamed(partition.identity) { return true }
        let others = siblings.compactMap { $0["partition bound"].flatMap(RangeBound.init) }
        guard let range = RangeBound(bound), !others.isEmpty else { return false }
        return others.allSatisfy(range.endsBefore)
    }

    /// Removes a table with its parts and partitions.
    private func remove(_ table: ObjectIdentity, from catalog: inout SchemaCatalog) {
        for partition in expectedPartitions[ExactText(table.path)] ?? [] {
            remove(partition.identity, from: &catalog)
        }
        for part in parts[ExactText(table.path)] ?? [] { catalog[part] = nil }
        catalog[table] = nil
    }

    // MARK: Partitions that only the found catalog has

    private func isAdopted(_ partition: CatalogObject) -> Bool {
        guard let schema = partition.identity.schema else { return false }
        // A foreign table stores its rows on another server.
        guard partition.identity.kind == .table else { return false }
        return expected[partition.identity] == nil && expected[ObjectIdentity(.schema, schema)] != nil
    }

    /// Adds a found partition as it is expected to be. Properties that concern only the storage, or that have an effect
    /// only on statements that name the partition itself, are those of the found partition.
    private func adopt(
        _ partition: CatalogObject, of parent: CatalogObject, hidesRows: Bool, _ catalog: inout SchemaCatalog
    ) {
        var table = partition
        for property in ["owner", "persistence"] { table[property] = parent[property] }
        table["disabled inherited triggers"] = nil
        // Whoever may read a partition without row level security reads rows that the parent hides.
        let hides = hidesRows && partition["row level security"] == nil
        restrictPrivileges(of: &table, to: hides ? CatalogObject(parent.identity) : parent, allowsDefaults: !hides)
        let order = QualifiedName.list(partition["column order"] ?? "")
        let wanted = QualifiedName.list(parent["column order"] ?? "")
        let kept = Set(order.map(ExactText.init)).intersection(wanted.map(ExactText.init))
        table["column order"] =
            (order.filter { kept.contains(ExactText($0)) } + wanted.filter { !kept.contains(ExactText($0)) })
            .joined(separator: ", ")
        catalog[table.identity] = table
        for name in wanted.map(QualifiedName.unquoted) {
            let own = ObjectIdentity(.column, schema: parent.identity.schema, parent: parent.identity.name, name)
            guard let column = catalog[own] else { continue }
            catalog[self.column(name, of: table)] = adopted(
                column, as: self.column(name, of: table), withPrivileges: !hides)
        }
        for object in statistics[ExactText(table.identity.path)] ?? [] { catalog[object.identity] = object }
    }

    private func column(_ name: String, of table: CatalogObject) -> ObjectIdentity {
        ObjectIdentity(.column, schema: table.identity.schema, parent: table.identity.name, name)
    }

    /// Returns the expected column of a partition. Defaults and identities may be absent, because rows that are
    /// inserted into the parent get theirs.
    ///
    /// - Parameter withPrivileges: whether the partition may have the column privileges of its parent.
    private func adopted(
        _ column: CatalogObject, as identity: ObjectIdentity, withPrivileges: Bool
    ) -> CatalogObject {
        var result = CatalogObject(identity, properties: column.properties)
        result.dependencies = column.dependencies
        guard let there = found[identity] else {
            result["identity"] = nil
            return result
        }
        for property in ["comment", "statistics target", "options", "storage", "compression", "foreign options"] {
            result[property] = there[property]
        }
        for property in ["default", "identity"] where there[property] == nil { result[property] = nil }
        for property in there.properties where PrivilegeChange.grantee(property.name) != nil {
            result[property.name] = property.value
        }
        restrictPrivileges(of: &result, to: withPrivileges ? column : CatalogObject(column.identity))
        return result
    }

    /// Removes the privileges that a partition grants beyond its parent: they are a way around the row level security
    /// of the parent. A partition needs no privileges for statements that name its parent, so privileges may be absent.
    private func restrictPrivileges(
        of object: inout CatalogObject, to parent: CatalogObject, allowsDefaults: Bool = true
    ) {
        let given = allowsDefaults ? defaults.given(to: object.identity) : [:]
        let change = PrivilegeChange(object: object, owner: "")
        for property in object.properties {
            guard let grantee = PrivilegeChange.grantee(property.name) else { continue }
            let plain = PrivilegeChange.list(change.standard(grantee))
            let allowed = Set(
                [parent[property.name], given[ExactText(property.name)]].compactMap { $0 }.flatMap(PrivilegeChange.list)
                    + plain)
            let granted = PrivilegeChange.list(property.value)
            if granted.contains(where: { !allowed.contains($0) }) {
                let rest = granted.filter(allowed.contains)
                object[property.name] =
                    Set(rest) == Set(plain) ? nil : rest.isEmpty ? "none" : rest.joined(separator: ", ")
            }
        }
    }
}

extension SchemaCatalog {
    /// Returns this expected catalog with the partitions of a found catalog. Partitions that functions and retention
    /// policies create and drop are then no differences.
    ///
    /// - Parameter isNamed: returns whether the expected schema names a partition. Such a partition may be missing only
    ///   if it is older than all partitions that are there.
    public func withPartitions(
        of found: SchemaCatalog, isNamed: (ObjectIdentity) -> Bool = { _ in false }
    ) -> SchemaCatalog {
        withoutActuallyEscaping(isNamed) {
            DataPartitions(expected: self, found: found, isNamed: $0)?.reconciled ?? self
        }
    }
}

/// The bound of a range partition, as far as its values can be compared without the server: numbers, dates and
/// timestamps.
struct RangeBound {
    private enum Value: Equatable {
        case minimum, maximum
        case number(Double)
        case time(String)
        case other

        init(_ text: String) {
            let bare = text.hasPrefix("'") && text.hasSuffix("'") ? String(text.dropFirst().dropLast()) : text
            if text == "MINVALUE" {
                self = .minimum
            } else if text == "MAXVALUE" {
                self = .maximum
            } else if let number = Double(bare), number.magnitude < 9e15 {
                self = .number(number)
            } else if bare.wholeMatch(of: /\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d+)?(\+00)?)?/) != nil {
                self = .time(bare)
            } else {
                self = .other
            }
        }
    }

    private let from: [Value]
    private let to: [Value]

    /// Parses `FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')`; returns nil for other bounds.
    init?(_ bound: String) {
        guard bound.hasPrefix("FOR VALUES FROM ("), bound.hasSuffix(")"), let middle = bound.range(of: ") TO (") else {
            return nil
        }
        let start = bound.index(bound.startIndex, offsetBy: "FOR VALUES FROM (".count)
        guard start <= middle.lowerBound else { return nil }
        from = QualifiedName.list(String(bound[start..<middle.lowerBound])).map(Value.init)
        to = QualifiedName.list(String(bound[middle.upperBound...].dropLast())).map(Value.init)
    }

    /// Returns whether this range ends where another begins, or before; false if this cannot be determined.
    func endsBefore(_ other: RangeBound) -> Bool {
        for (end, start) in zip(to, other.from) {
            switch (end, start) {
            case (.minimum, .minimum), (.maximum, .maximum): continue
            case (.minimum, _), (_, .maximum): return true
            case (.number(let end), .number(let start)): if end != start { return end < start }
            case (.time(let end), .time(let start)): if end != start { return end < start }
            default: return false
            }
        }
        return true
    }
}
