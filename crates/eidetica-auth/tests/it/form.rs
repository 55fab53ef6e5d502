use eidetica_auth::{
    AuthRecord, AuthState, FormError, KeyName, Permission, Revocation, Right, SettingsPayload,
    records_from_json, section_to_json,
};
use serde_json::{Value, json};

use crate::{gives, name, secret, world::World};

/// The state after a root by key 1 with this payload.
fn after_root(payload: &SettingsPayload) -> AuthState {
    let mut world = World::default();
    let root = world.root(1, payload.records().to_vec()).unwrap();
    world.state_at(&[root])
}

fn read(section: Value) -> Result<Vec<AuthRecord>, FormError> {
    records_from_json(section.as_object().unwrap())
}

#[test]
fn the_form_of_the_guide_is_read() {
    let wildcard = json!({"*": {"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"}});
    assert_eq!(
        read(wildcard).unwrap(),
        [AuthRecord::Wildcard(Some(Permission::Write(10)))]
    );
    let key = secret(1).public();
    let grant =
        json!({"laptop": {"pubkey": key.to_string(), "permissions": "Read", "status": "Active"}});
    assert_eq!(
        read(grant).unwrap(),
        [AuthRecord::grant(key, Permission::Read, name("laptop"))]
    );
}

#[test]
fn other_forms_are_refused_with_the_name_of_the_entry() {
    let key = secret(1).public().to_string();
    let good = json!({"pubkey": key, "permissions": {"Write": 1}, "status": "Active"});
    assert!(read(json!({"a": good})).is_ok());
    let with = |field: &str, value: Value| {
        let mut entry = good.clone();
        entry[field] = value;
        read(json!({"laptop": entry})).unwrap_err()
    };
    assert!(
        matches!(with("pubkey", json!("nonsense")), FormError::Pubkey { name } if name == "laptop")
    );
    assert!(
        matches!(with("status", json!("Revoked")), FormError::Status { status, .. } if status == "Revoked")
    );
    for permissions in [
        json!("Write"),
        json!({"Write": -1}),
        json!({"Write": 1, "Read": 2}),
        json!("Recovery"),
        json!(null),
    ] {
        assert!(
            matches!(with("permissions", permissions), FormError::Entry { name, .. } if name == "laptop")
        );
    }
    assert!(matches!(with("extra", json!(1)), FormError::Entry { .. }));
    assert!(matches!(
        read(json!({"a": 1})),
        Err(FormError::Entry { .. })
    ));
    assert!(matches!(
        read(json!({"a\u{1b}": good})),
        Err(FormError::Name(_))
    ));
}

#[test]
fn a_state_is_written_in_the_form_of_the_guide_and_read_again() {
    let records = vec![
        AuthRecord::Wildcard(Some(Permission::Write(10))),
        AuthRecord::grant(secret(1).public(), Permission::Admin(0), name("laptop")),
        AuthRecord::grant(secret(2).public(), Permission::Read, name("laptop")),
        gives(3, Permission::Write(1)),
        AuthRecord::grant(secret(4).public(), Permission::Read, name("*")),
    ];
    let payload = SettingsPayload::new(records, Default::default()).unwrap();
    let state = after_root(&payload);
    let section = section_to_json(&state);
    assert_eq!(section.len(), 5);
    assert_eq!(
        section["*"],
        json!({"pubkey": "*", "permissions": {"Write": 10}, "status": "Active"})
    );
    let again =
        SettingsPayload::new(records_from_json(&section).unwrap(), Default::default()).unwrap();
    let again = after_root(&again);
    for n in 1..6 {
        assert_eq!(
            again.right_of(&secret(n).public()),
            state.right_of(&secret(n).public())
        );
    }
}

#[test]
fn a_recovery_key_is_shown_and_cannot_be_given() {
    let payload =
        SettingsPayload::new(vec![gives(1, Right::Recovery)], Default::default()).unwrap();
    let section = section_to_json(&after_root(&payload));
    assert_eq!(
        section[&secret(1).public().to_string()]["permissions"],
        "Recovery"
    );
    assert!(records_from_json(&section).is_err());
}

#[test]
fn a_key_of_which_nothing_is_left_is_shown_as_revoked() {
    let mut world = World::new(&[Permission::Admin(0), Permission::Write(3)]);
    let root = world.id();
    let down = AuthRecord::Revoke(Revocation::of(secret(2).public()));
    let revoked = world.says(1, &[root], vec![down]).unwrap();
    let section = section_to_json(&world.state_at(&[revoked]));
    let shown = &section[&secret(2).public().to_string()];
    assert_eq!(shown["status"], "Revoked");
    assert_eq!(shown["permissions"], json!({"Write": 3}));
    assert_eq!(section[&secret(1).public().to_string()]["status"], "Active");
    assert!(
        records_from_json(&section).is_err(),
        "a status that cannot be given"
    );
}

#[test]
fn of_a_revoked_key_the_strongest_right_is_shown() {
    let mut world = World::new(&[
        Permission::Admin(0),
        Permission::Admin(1),
        Permission::Write(3),
    ]);
    let root = world.id();
    let to = secret(2).public();
    let rotation = AuthRecord::Rotate {
        to,
        name: KeyName::default(),
    };
    let rotated = world.says(3, &[root], vec![rotation]).unwrap();
    let down = AuthRecord::Revoke(Revocation::of(to));
    let revoked = world.says(1, &[rotated], vec![down]).unwrap();
    let section = section_to_json(&world.state_at(&[revoked]));
    let shown = &section[&to.to_string()];
    assert_eq!(shown["status"], "Revoked");
    assert_eq!(shown["permissions"], json!({"Admin": 1}));
}
