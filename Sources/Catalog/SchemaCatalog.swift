import Postgres
import SQL

/// An object of a schema as a value: named properties, each with its text as PostgreSQL prints it.
///
/// Properties with default values are omitted. Therefore a catalog from a newer server, which has more properties, is
/// equal to a catalog from an older server.
public struct CatalogObject: Sendable, Equatable {
    public let identity: ObjectIdentity
    /// The properties, ordered by name.
    public private(set) var properties: [(name: String, value: String)]
    /// The objects that this object depends on, from `pg_depend`; empty unless dependencies were requested.
    public var dependencies: [ObjectIdentity] = []
    /// Digests of the secrets that are hidden in properties, by property. They are valid in this process only, and are
    /// not part of snapshots.
    var secrets: [String: [UInt8]] = [:]

    public init(_ identity: ObjectIdentity, properties: [(name: String, value: String)] = []) {
        self.identity = identity
        self.properties = properties.sorted { ExactText.precedes($0.name, $1.name) }
    }

    public subscript(name: String) -> String? {
        get { properties.first { ExactText.same($0.name, name) }?.value }
        set {
            properties.removeAll { ExactText.same($0.name, name) }
            guard let newValue else { return }
            let index = properties.firstIndex { ExactText.precedes(name, $0.name) } ?? properties.endIndex
            properties.insert((name, newValue), at: index)
        }
    }

    public static func == (left: CatalogObject, right: CatalogObject) -> Bool {
        left.identity == right.identity
            && left.properties.elementsEqual(right.properties) { one, other in
                ExactText.same(one.name, other.name) && ExactText.same(one.value, other.value)
            } && left.otherSecrets(than: right).isEmpty
    }

    /// Returns the properties whose secrets are known for both objects, and are different.
    func otherSecrets(than other: CatalogObject) -> [String] {
        secrets.filter { name, digest in other.secrets[name].map { $0 != digest } ?? false }.keys.sorted()
    }

    /// The path of the object's container, for objects whose name does not include it: the column that owns a sequence,
    /// or the table of a statistics object.
    var containerPath: String? {
        switch identity.kind {
        case .statistics: self["table"]
        case .sequence: self["identity of"] ?? self["owned by"]
        case .schema, .extension, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .foreignDataWrapper, .foreignServer, .userMapping,
            .function,
            .procedure, .aggregate, .operation, .cast, .table, .foreignTable, .column, .constraint, .index, .view,
            .materializedView, .rule,
            .trigger, .policy, .eventTrigger, .publication, .subscription, .defaultPrivileges, .extensionMember:
            nil
        }
    }
}

/// A value that describes the objects in the schemas of one database, either as they were found or as they are
/// expected.
public struct SchemaCatalog: Sendable {
    public private(set) var objects: [ObjectIdentity: CatalogObject] = [:]
    /// The schemas that were read.
    public var schemas: Set<ExactText>
    /// The server's major version.
    public var serverVersion: Int
    /// The system of each schema, and of each object outside schemas.
    public var systems: [ObjectIdentity: String] = [:]
    /// The kinds of objects that exist in the schemas but that catalogs do not contain, each with the number of these
    /// objects.
    public var unsupportedKinds: [String] = []
    /// Relations, domains, columns and composite types by the parts of their names, without quotes.
    private var containers: [[ExactText]: ObjectIdentity] = [:]

    public init(schemas: Set<ExactText>, serverVersion: Int, objects: [CatalogObject] = []) {
        self.schemas = schemas
        self.serverVersion = serverVersion
        self.objects.reserveCapacity(objects.count)
        for object in objects { self[object.identity] = object }
    }

    public subscript(identity: ObjectIdentity) -> CatalogObject? {
        get { objects[identity] }
        set {
            objects[identity] = newValue
            let kind = identity.kind
            if kind.isRelation || kind == .domain || kind == .column || kind == .compositeType {
                containers[identity.nameParts] = newValue == nil ? nil : identity
            }
        }
    }

    /// All objects, ordered by identity.
    public var sorted: [CatalogObject] { objects.values.sorted { $0.identity < $1.identity } }

    /// Returns the relation, domain, composite type or column with a path.
    func object(at path: String) -> ObjectIdentity? { containers[QualifiedName.parts(path[...]).map(ExactText.init)] }

    /// Returns the relation, domain, composite type or column that an object belongs to and cannot exist without.
    func container(of object: CatalogObject) -> ObjectIdentity? {
        switch object.identity.kind {
        case .userMapping: return existing(ObjectIdentity(.foreignServer, object.identity.name))
        case .extensionMember: return existing(ObjectIdentity(.extension, object.identity.name))
        default: break
        }
        if object.identity.kind.hasParent {
            return containers[[object.identity.schema, object.identity.parent].compactMap { $0.map(ExactText.init) }]
        }
        return object.containerPath.flatMap { self.object(at: $0) }
    }

    private func existing(_ identity: ObjectIdentity) -> ObjectIdentity? { objects[identity] == nil ? nil : identity }

    /// Whether secrets are hidden in the catalog, which can be compared in this process only.
    public var hasSecrets: Bool { objects.values.contains { !$0.secrets.isEmpty } }

    /// Returns an object. The members of an extension are in the catalog only if their privileges were changed; for
    /// other members, returns an object without properties. If a column of a view or composite type is not in the
    /// catalog, returns a column without properties: the catalog omits columns of these kinds that have no properties.
    func objectOrImplicitColumn(_ identity: ObjectIdentity) -> CatalogObject? {
        if let object = objects[identity] { return object }
        if identity.kind == .extensionMember {
            return existing(ObjectIdentity(.extension, identity.name)).map { _ in CatalogObject(identity) }
        }
        guard identity.kind == .column, let owner = self.object(at: identity.quotedParent), !owner.kind.isTable else {
            return nil
        }
        return CatalogObject(identity)
    }

    /// Returns the system that an object belongs to; nil if it is unknown.
    public func system(of identity: ObjectIdentity) -> String? {
        if let own = systems[identity] { return own }
        if identity.kind == .userMapping { return systems[ObjectIdentity(.foreignServer, identity.name)] }
        if identity.kind == .extensionMember { return systems[ObjectIdentity(.extension, identity.name)] }
        return identity.owningSchema.flatMap { systems[ObjectIdentity(.schema, $0)] }
    }

    /// Adds the objects of another catalog.
    public mutating func add(_ other: SchemaCatalog) {
        for object in other.objects.values { self[object.identity] = object }
        schemas.formUnion(other.schemas)
        systems.merge(other.systems) { own, _ in own }
        unsupportedKinds += other.unsupportedKinds
    }

    /// Returns the catalog without the objects for which `isWanted` returns false.
    public func filtered(_ isWanted: (ObjectIdentity) -> Bool) -> SchemaCatalog {
        var result = SchemaCatalog(schemas: schemas, serverVersion: serverVersion)
        result.systems = systems
        result.unsupportedKinds = unsupportedKinds
        for (identity, object) in objects where isWanted(identity) { result[identity] = object }
        return result
    }
}
