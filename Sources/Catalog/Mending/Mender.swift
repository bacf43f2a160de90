import Postgres

/// Writes the SQL that removes differences between two catalogs. Pure.
///
///     let mender = Mender(expected: expected, found: found, owner: "app")
///     print(mender.script(for: differences, lossy: false).text)
///
/// Both catalogs must have been read with dependencies. If an object is created again, the objects that depend on it
/// are dropped first, in reverse order, and created afterwards as expected.
public struct Mender: Sendable {
    let expected: SchemaCatalog
    let found: SchemaCatalog
    let owner: String
    /// For each found object, the objects that depend on it.
    let dependents: [ObjectIdentity: [ObjectIdentity]]
    /// For each found object, its parts. The parts of a schema are the objects in the schema.
    let foundParts: [ObjectIdentity: [ObjectIdentity]]
    let expectedParts: [ObjectIdentity: [ObjectIdentity]]
    /// For each expected object, the objects that must exist before it can be created.
    let needs: [ObjectIdentity: [ObjectIdentity]]
    private let defaults: DefaultPrivileges

    /// - Parameter owner: the role that runs migrations. It owns the objects without an "owner" property.
    public init(expected: SchemaCatalog, found: SchemaCatalog, owner: String) {
        self.expected = expected
        self.found = found
        self.owner = owner
        var dependents: [ObjectIdentity: [ObjectIdentity]] = [:]
        for object in found.sorted {
            for need in object.dependencies { dependents[need, default: []].append(object.identity) }
        }
        self.dependents = dependents
        foundParts = Self.parts(of: found)
        expectedParts = Self.parts(of: expected)
        needs = Self.needs(of: expected)
        defaults = DefaultPrivileges(found)
    }

    var definition: ObjectDefinition {
        ObjectDefinition(
            catalog: expected, parts: expectedParts, owner: owner, defaults: defaults,
            namesVersions: expected.serverVersion == found.serverVersion)
    }

    var foundDefinition: ObjectDefinition { ObjectDefinition(catalog: found, parts: foundParts, owner: owner) }

    var alterations: AlterationPlanner {
        AlterationPlanner(expected: expected, found: found, definition: definition)
    }

    private static func needs(of catalog: SchemaCatalog) -> [ObjectIdentity: [ObjectIdentity]] {
        var needs: [ObjectIdentity: [ObjectIdentity]] = [:]
        for object in catalog.objects.values {
            var all = object.dependencies
            if object.identity.kind == .sequence {
                // A sequence does not need its table and column, because it is assigned to the column after both exist.
                all = all.filter { $0.kind != .column && !$0.kind.isTable }
            } else if let container = catalog.container(of: object) {
                all.append(container)
            }
            if let schema = object.identity.schema { all.append(ObjectIdentity(.schema, schema)) }
            needs[object.identity] = all
        }
        return needs
    }

    private static func parts(of catalog: SchemaCatalog) -> [ObjectIdentity: [ObjectIdentity]] {
        var parts: [ObjectIdentity: [ObjectIdentity]] = [:]
        for object in catalog.sorted {
            if let container = catalog.container(of: object) {
                parts[container, default: []].append(object.identity)
            } else if let schema = object.identity.schema {
                parts[ObjectIdentity(.schema, schema), default: []].append(object.identity)
            }
        }
        return parts
    }

    /// Returns the script for all or some of the differences between the two catalogs.
    ///
    /// - Parameter lossy: whether statements that lose rows or values are run. Otherwise these statements, and those
    ///   that require them, are comments.
    public func script(for differences: [Difference], lossy: Bool) -> MendScript {
        let whole = MendWriter(plan: plan(for: differences)).script()
        let isRun = { (statement: MendScript.Statement) in !statement.isIncomplete && (lossy || statement.loss == nil) }
        if whole.statements.allSatisfy(isRun) { return whole }
        let (kept, withheld) = LossSplit(mender: self, isRun: isRun).split(differences)
        var script = MendWriter(plan: plan(for: kept)).script()
        script.withheld = MendWriter(plan: plan(for: withheld)).script().statements
        return script
    }

    func plan(for differences: [Difference]) -> MendPlan {
        var plan = MendPlan(mender: self)
        plan.take(differences)
        plan.clearTheWay()
        return plan
    }

    /// Returns an object with its parts, and recursively their parts.
    static func whole(
        _ identity: ObjectIdentity, _ parts: [ObjectIdentity: [ObjectIdentity]]
    ) -> [ObjectIdentity] {
        [identity] + (parts[identity] ?? []).flatMap { whole($0, parts) }
    }
}
