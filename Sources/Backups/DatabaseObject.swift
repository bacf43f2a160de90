/// An object in a database, by the OID of its system catalog and its own OID.
struct DatabaseObject: Sendable, Hashable {
    let catalog: Int
    let id: Int
}
