import Foundation
import Testing

@testable import Storage

@Suite struct RepositoryAddressTests {
    private func store(_ text: String, _ environment: [String: String] = [:]) throws -> any ObjectStore {
        try RepositoryAddress(text).store(
            RepositoryAddress.Surroundings(environment: environment) { $0.hasPrefix("/") ? $0 : "/config/\($0)" })
    }

    @Test(arguments: [
        ("/srv/backups", "/srv/backups"), ("backups", "/config/backups"), ("./a:/b", "/config/./a:/b"),
        ("../12:30", "/config/../12:30"), ("file:///srv/backups", "/srv/backups"), ("FILE:///srv/a%20b", "/srv/a b"),
    ])
    func `a path and a file URI name a folder`(text: String, path: String) throws {
        let store = try store(text)
        #expect(store is FolderStore && store.place == path)
    }

    @Test func `an address with the scheme s3 names a bucket`() throws {
        let credentials = ["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]
        let store = try store("s3://b/p?region=eu-west-1", credentials)
        #expect(store is S3Store && store.place == "s3://b/p")
    }

    @Test func `a repository without credentials fails when it is used`() throws {
        let store = try store("s3://b/p?profile=none", ["AWS_SHARED_CREDENTIALS_FILE": "/nowhere"])
        #expect(store is UnusableStore && store.place == "s3://b/p")
        #expect(throws: StorageError.self) { try store.list("") }
    }

    @Test(arguments: [
        "gs://b/p", "gs:/b/p", "GS://b/p", "azure+blob://b/p", "https://host/path", "file://host/srv", "file:/srv",
        "file://srv", "", "file:///srv?x=1", "file:///srv#x", "file:///a%00b", "file:///a%zz", "s3:/b/p", "s3:///p",
    ])
    func `an address that no kind of repository reads is refused`(text: String) {
        #expect(throws: StorageError.self) { try RepositoryAddress(text) }
    }

    @Test func `an unknown scheme is told with those that are known`() {
        let error = #expect(throws: StorageError.self) { try RepositoryAddress("gs://b/p") }
        #expect(
            error?.description
                == "'gs://b/p' is not the address of a repository: unknown scheme 'gs'; known schemes are file, s3")
        for kind in RepositoryKind.all {
            for form in kind.forms { #expect(error?.hint?.contains(form) == true) }
        }
    }

    @Test(arguments: ["gs://key:secret@b/p", "s3://key:secret@b/p", "gs://b/p?token=secret", "s3:///p?a=secret"])
    func `an error does not tell what is secret`(text: String) {
        let error = #expect(throws: StorageError.self) { try RepositoryAddress(text) }
        #expect(error.map { "\($0)".contains("secret") } == false)
    }

    @Test func `each kind has a scheme of its own, in lower case`() {
        let schemes = RepositoryKind.all.map(\.scheme)
        #expect(Set(schemes).count == schemes.count && schemes.allSatisfy { $0 == $0.lowercased() })
    }
}
