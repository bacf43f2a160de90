import Foundation
import Storage

/// Where backups, and what else is kept outside the databases, lie.
public enum RepositorySettings {
    public static let repository = Setting<[String]>(
        list: "backup.repository", .text,
        "Where backups lie: folders, best on another machine's disk, and s3://BUCKET/PREFIX?endpoint=URL; each backup "
            + "goes into all of them. Without one there are no backups.")
    public static let callLimit = Setting(
        "backup.call_limit", .limit, default: "2min",
        "How long one call to a repository may take: a listing, a removal, a manifest.")
    public static let stallLimit = Setting(
        "backup.stall_limit", .limit, default: "5min",
        "How long a part that is written or read may not move; a repository that is slower is left out.")
    public static let hungCalls = Setting(
        "backup.hung_calls", .integer(1...1000), default: "4",
        "How many calls to a repository may hang before further calls fail at once.")

    public static let keys = [repository.key, callLimit.key, stallLimit.key, hungCalls.key]

    /// How long is waited for a repository.
    public static func limits(_ configuration: Configuration) -> BoundedStore.Limits {
        var limits = BoundedStore.Limits()
        limits.call = configuration[callLimit]
        limits.stall = configuration[stallLimit]
        limits.hung = configuration[hungCalls]
        return limits
    }

    /// The repositories, in the order in which they are named; none where none is configured.
    ///
    /// - Throws: `StorageError` for what does not name a place. A store without credentials fails when it is used, so that
    ///   the others go on.
    public static func stores(_ configuration: Configuration) throws -> [BoundedStore] {
        let limits = limits(configuration)
        return try configuration[repository].map { place in
            guard place.hasPrefix(S3Location.scheme) else {
                let folder = configuration.resolve(place, from: configuration.origin(repository))
                return BoundedStore(FolderStore(folder), limits: limits)
            }
            let location = try S3Location(place)
            do {
                let credentials = try S3Credentials.find(
                    profile: location.profile, environment: configuration.environment, place: location.place)
                return BoundedStore(S3Store(location, credentials), limits: limits)
            } catch let error as StorageError {
                return BoundedStore(UnusableStore(location.place, error))
            }
        }
    }
}
